output "name" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.service.name
}

output "public_base_url" {
  description = "URL under which providers and callers reach the service."
  value       = local.public_base_url
}

output "run_url" {
  description = "Cloud Run's own URL of the service."
  value       = google_cloud_run_v2_service.service.uri
}

output "webhook_urls" {
  description = "What to paste into each provider's console. The fragment makes Twilio try again five times on any failure."
  value = {
    for provider in var.providers_named : provider => {
      incoming_message = "${local.public_base_url}/webhook/${provider}/sms${provider == "twilio" ? "#rc=5&rp=all" : ""}"
      status_callback  = "${local.public_base_url}/webhook/${provider}/status${provider == "twilio" ? "#rc=5&rp=all" : ""}"
    }
  }
}

output "migration_job" {
  description = "Name of the job that brings the schema up to date."
  value       = google_cloud_run_v2_job.migrate.name
}

output "worker_pool" {
  description = "Name of the worker pool; null where the service does its work itself."
  value       = one(google_cloud_run_v2_worker_pool.workers[*].name)
}

output "registry" {
  description = "Where images are pushed to."
  value = {
    id       = google_artifact_registry_repository.images.repository_id
    location = google_artifact_registry_repository.images.location
    url      = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
  }
}

output "runtime_account" {
  description = "Account that the service and its workers run as."
  value       = google_service_account.runtime.name
}

output "migration_account" {
  description = "Account that migrations run as."
  value       = google_service_account.migration.name
}

output "load_balancer_address" {
  description = "Address that public_host must point to (an A record); null without a load balancer."
  value       = one(module.edge[*].address)
}
