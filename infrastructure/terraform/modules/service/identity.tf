# Two accounts without any role in the project, but for writing metrics where a collector does. What they may do besides
# is read the secrets named below, and nothing else.

resource "google_service_account" "runtime" {
  project      = var.project_id
  account_id   = "${var.name}-run"
  display_name = "${var.name}: service and workers"
}

resource "google_service_account" "migration" {
  project      = var.project_id
  account_id   = "${var.name}-mig"
  display_name = "${var.name}: migrations"
}

resource "google_secret_manager_secret_iam_member" "runtime" {
  for_each = toset(concat([for each in values(var.secrets) : each.secret], [var.signing_keys_secret]))

  project   = var.project_id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.runtime.member
}

resource "google_secret_manager_secret_iam_member" "migration" {
  for_each = toset([for each in values(local.migration_secrets) : each.secret])

  project   = var.project_id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.migration.member
}

resource "google_project_iam_member" "writes_metrics" {
  count = var.metrics_collector == null ? 0 : 1

  project = var.project_id
  role    = "roles/monitoring.metricWriter"
  member  = google_service_account.runtime.member
}
