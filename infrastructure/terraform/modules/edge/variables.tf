variable "project_id" {
  description = "Google Cloud project that everything belongs to."
  type        = string
}

variable "region" {
  description = "Region of the service behind the load balancer."
  type        = string
}

variable "name" {
  description = "Name of the service; what belongs to it begins with it."
  type        = string
}

variable "public_host" {
  description = "Host name of the certificate."
  type        = string
}

variable "service_name" {
  description = "Cloud Run service behind the load balancer."
  type        = string
}

variable "webhook_allowlist" {
  description = "Networks that may call the webhook paths; empty: any."
  type        = list(string)
}
