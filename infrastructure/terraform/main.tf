# One environment. Which one is decided by variables alone:
#
#   terraform init -reconfigure -backend-config=environments/staging/backend.hcl
#   terraform apply -var-file=environments/staging/terraform.tfvars
#
# docs/deployment.md has the first deployment step by step.

locals {
  apis = [
    "artifactregistry.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "sts.googleapis.com",
  ]
}

resource "google_project_service" "api" {
  for_each = toset(local.apis)

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

module "service" {
  source = "./modules/service"

  project_id          = var.project_id
  region              = var.region
  name                = var.name
  environment         = var.environment
  public_host         = var.public_host
  image               = var.image
  scale               = var.scale
  worker_instances    = var.worker_instances
  settings            = var.settings
  secrets             = var.secrets
  signing_keys_secret = var.signing_keys_secret
  migration_database  = var.migration_database
  network             = var.network
  load_balancer       = var.load_balancer
  webhook_allowlist   = var.webhook_allowlist
  providers_named     = var.providers_named
  alerting            = var.alerting
  metrics_collector   = var.metrics_collector
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.api]
}

module "pipeline" {
  source = "./modules/pipeline"

  project_id         = var.project_id
  region             = var.region
  github             = var.github
  image_readers      = var.image_readers
  registry           = module.service.registry
  runtime_account    = module.service.runtime_account
  migration_account  = module.service.migration_account
  service_name       = module.service.name
  migration_job_name = module.service.migration_job
  worker_pool_name   = module.service.worker_pool
  has_workers        = var.worker_instances > 0
}
