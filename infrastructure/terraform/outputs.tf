output "webhook_urls" {
  description = "What to paste into Twilio's console (and those of other providers)."
  value       = module.service.webhook_urls
}

output "public_base_url" {
  description = "URL under which providers and callers reach the service."
  value       = module.service.public_base_url
}

output "load_balancer_address" {
  description = "Address that public_host must point to (an A record); null without a load balancer."
  value       = module.service.load_balancer_address
}

output "github_variables" {
  description = "Variables of the GitHub environment, as the workflows read them."
  value = {
    GCP_PROJECT                    = var.project_id
    GCP_REGION                     = var.region
    GCP_SERVICE                    = module.service.name
    GCP_MIGRATION_JOB              = module.service.migration_job
    GCP_WORKER_POOL                = coalesce(module.service.worker_pool, "none")
    GCP_REGISTRY                   = module.service.registry.url
    GCP_DEPLOYER                   = module.pipeline.deployer
    GCP_WORKLOAD_IDENTITY_PROVIDER = module.pipeline.workload_identity_provider
    PUBLIC_BASE_URL                = module.service.public_base_url
  }
}
