module "edge" {
  source = "../edge"
  count  = var.load_balancer ? 1 : 0

  project_id        = var.project_id
  region            = var.region
  name              = var.name
  public_host       = var.public_host
  service_name      = google_cloud_run_v2_service.service.name
  webhook_allowlist = var.webhook_allowlist
}
