terraform {
  required_version = ">= 1.7"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.6"
    }
  }

  # Which bucket, and where in it, stands in environments/*/backend.hcl. The bucket is versioned and encrypted, and only
  # who may run Terraform may read it; no secret is ever written to it.
  backend "gcs" {}
}

provider "google" {
  project = var.project_id
  region  = var.region

  default_labels = {
    service     = "sms-foundation"
    environment = var.environment
  }
}
