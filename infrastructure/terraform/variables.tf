# What the environments differ in. Each is described, and checked, where it is used: modules/service/variables.tf.

variable "project_id" {
  description = "Google Cloud project that everything belongs to."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of the service and its registry; close to the database."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the service; what belongs to it begins with it."
  type        = string
  default     = "sms-foundation"
}

variable "environment" {
  description = "APP_ENV of the service: development, staging or production."
  type        = string
}

variable "public_host" {
  description = "Host name under which providers and callers reach the service. Signatures are checked against it."
  type        = string
}

variable "image" {
  description = "Image that the very first revision runs, by digest. Later ones are the pipeline's."
  type        = string
}

variable "scale" {
  description = <<-EOT
    Size of one instance and how many there are. min_instances of 1 or more keeps the work loop running while nobody
    calls; concurrency is how many requests one instance answers at once.
  EOT
  type = object({
    min_instances = optional(number, 1)
    max_instances = optional(number, 4)
    concurrency   = optional(number, 200)
    cpu           = optional(string, "1")
    memory        = optional(string, "512Mi")
  })
  default  = {}
  nullable = false
}

variable "worker_instances" {
  description = "Instances of a worker pool of its own. 0: none, the service does its background work itself."
  type        = number
  default     = 0
}

variable "settings" {
  description = "Further settings by the names of .env.example. Never a secret: they stand in the state in the clear."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "secrets" {
  description = <<-EOT
    Settings that are secrets: name of the setting, and the secret in Secret Manager that holds it. The secrets exist
    before (docs/deployment.md); neither their creation nor their values pass through here.
  EOT
  type = map(object({
    secret  = string
    version = optional(string, "latest")
  }))
  nullable = false
}

variable "signing_keys_secret" {
  description = "Secret with the RSA keys (PEM) that sign our tokens; mounted as a file and read again every minute."
  type        = string
  nullable    = false
}

variable "migration_database" {
  description = <<-EOT
    Secret with the DATABASE_URL of migrations, where it is another than the service's: a role that owns the tables, over
    a direct connection instead of the pooler. Null: the service's own.
  EOT
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null
}

variable "network" {
  description = "VPC network and subnetwork through which private addresses are reached (database, Redis). Null: none."
  type = object({
    network    = string
    subnetwork = string
  })
  default = null
}

variable "load_balancer" {
  description = "Put Google's load balancer with a certificate for public_host in front, and let nothing past it."
  type        = bool
  default     = false
}

variable "webhook_allowlist" {
  description = <<-EOT
    Networks that may call the webhook paths; empty: any, signatures decide alone. Needs load_balancer. Providers such as
    Twilio publish no addresses for webhooks: for those that do, or for a proxy of your own.
  EOT
  type        = list(string)
  default     = []
  nullable    = false
}

variable "providers_named" {
  description = "Names of the providers in PROVIDERS, for the webhook URLs in the outputs."
  type        = list(string)
  default     = ["twilio"]
  nullable    = false
}

variable "alerting" {
  description = "Notification channels that hear of alerts, and from when on."
  type = object({
    channels              = optional(list(string), [])
    error_ratio           = optional(number, 0.02)
    latency_p99_ms        = optional(number, 2000)
    refused_webhooks_10m  = optional(number, 10)
    uptime_check_period_s = optional(number, 60)
  })
  default  = {}
  nullable = false
}

variable "metrics_collector" {
  description = <<-EOT
    Run a collector beside the service and its workers that sends /metrics to Google Cloud Managed Service for Prometheus,
    where the dashboards and alert rules of infrastructure/observability can ask for them. Null: none, Cloud Run's own
    metrics and the log-based ones are left.
  EOT
  type = object({
    image = optional(string, "us-docker.pkg.dev/cloud-ops-agents-artifacts/cloud-run-gmp-sidecar/cloud-run-gmp-sidecar:1.2.0")
  })
  default = null
}

variable "deletion_protection" {
  description = "Refuse to destroy the service, its job and its workers."
  type        = bool
  default     = true
}

variable "github" {
  description = "Repository (owner/name) whose workflows deploy here, and the GitHub environment they must run in."
  type = object({
    repository  = string
    environment = string
  })
}

variable "image_readers" {
  description = "Deployers of other environments that copy images from this registry, as IAM members."
  type        = list(string)
  default     = []
  nullable    = false
}
