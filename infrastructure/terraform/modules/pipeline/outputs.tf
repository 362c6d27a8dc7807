output "workload_identity_provider" {
  description = "GitHub variable GCP_WORKLOAD_IDENTITY_PROVIDER of the environment."
  value       = google_iam_workload_identity_pool_provider.github.name
}

output "deployer" {
  description = "GitHub variable GCP_DEPLOYER of the environment."
  value       = google_service_account.deployer.email
}
