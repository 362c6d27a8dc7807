variable "project_id" {
  description = "Google Cloud project that everything belongs to."
  type        = string
}

variable "region" {
  description = "Region of the service."
  type        = string
}

variable "github" {
  description = "Repository (owner/name) whose workflows may deploy here, and the GitHub environment they must run in."
  type = object({
    repository  = string
    environment = string
  })

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "A repository such as owner/name."
  }
}

variable "image_readers" {
  description = "Other environments' deployers that copy images from this registry, as IAM members."
  type        = list(string)
}

variable "registry" {
  description = "Registry that images are pushed to."
  type = object({
    id       = string
    location = string
    url      = string
  })
}

variable "runtime_account" {
  description = "Account (full name) that the service runs as; deploying means acting as it."
  type        = string
}

variable "migration_account" {
  description = "Account (full name) that migrations run as."
  type        = string
}

variable "service_name" {
  description = "Cloud Run service that is deployed."
  type        = string
}

variable "migration_job_name" {
  description = "Cloud Run job that is run before."
  type        = string
}

variable "worker_pool_name" {
  description = "Worker pool that is deployed after; null: none."
  type        = string
}

variable "has_workers" {
  description = "There is a worker pool."
  type        = bool
}
