# How GitHub's workflows log in: with a token that GitHub signs for a single job, never with a key that lies somewhere.
# Only jobs of this repository's main branch that run in the named GitHub environment get in; who may approve those is
# set at GitHub.

locals {
  subject = "repo:${var.github.repository}:environment:${var.github.environment}"
}

resource "google_iam_workload_identity_pool" "github" {
  project                   = var.project_id
  workload_identity_pool_id = "github"
  display_name              = "GitHub Actions"
}

resource "google_iam_workload_identity_pool_provider" "github" {
  project                            = var.project_id
  workload_identity_pool_id          = google_iam_workload_identity_pool.github.workload_identity_pool_id
  workload_identity_pool_provider_id = "actions"
  attribute_condition                = "assertion.sub == '${local.subject}' && assertion.ref == 'refs/heads/main'"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "deployer" {
  project      = var.project_id
  account_id   = "${var.service_name}-deploy"
  display_name = "${var.service_name}: GitHub's workflows"
}

resource "google_service_account_iam_member" "github_is_deployer" {
  service_account_id = google_service_account.deployer.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principal://iam.googleapis.com/${google_iam_workload_identity_pool.github.name}/subject/${local.subject}"
}

# Push images here; other environments copy them from here.
resource "google_artifact_registry_repository_iam_member" "push" {
  project    = var.project_id
  location   = var.registry.location
  repository = var.registry.id
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.deployer.member
}

resource "google_artifact_registry_repository_iam_member" "copy" {
  for_each = toset(var.image_readers)

  project    = var.project_id
  location   = var.registry.location
  repository = var.registry.id
  role       = "roles/artifactregistry.reader"
  member     = each.value
}

# Change this service, this job and this pool, and no others.
resource "google_cloud_run_v2_service_iam_member" "deploy" {
  project  = var.project_id
  location = var.region
  name     = var.service_name
  role     = "roles/run.developer"
  member   = google_service_account.deployer.member
}

resource "google_cloud_run_v2_job_iam_member" "deploy" {
  project  = var.project_id
  location = var.region
  name     = var.migration_job_name
  role     = "roles/run.developer"
  member   = google_service_account.deployer.member
}

resource "google_cloud_run_v2_worker_pool_iam_member" "deploy" {
  count = var.has_workers ? 1 : 0

  project  = var.project_id
  location = var.region
  name     = var.worker_pool_name
  role     = "roles/run.developer"
  member   = google_service_account.deployer.member
}

resource "google_service_account_iam_member" "acts_as" {
  for_each = {
    runtime   = var.runtime_account
    migration = var.migration_account
  }

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deployer.member
}

# Read how a deployment goes: the state of operations and executions, and the share of errors of the new revision.
resource "google_project_iam_member" "watch" {
  for_each = toset(["roles/run.viewer", "roles/monitoring.viewer"])

  project = var.project_id
  role    = each.value
  member  = google_service_account.deployer.member
}
