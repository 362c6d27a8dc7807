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

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,22}[a-z0-9]$", var.name))
    error_message = "The name needs 4 to 24 lower-case letters, digits or hyphens: account ids are made of it."
  }
}

variable "environment" {
  description = "APP_ENV of the service: development, staging or production."
  type        = string

  validation {
    condition     = contains(["development", "staging", "production"], var.environment)
    error_message = "APP_ENV local and test answer without asking who calls; they never run in the cloud."
  }
}

variable "public_host" {
  description = "Host name under which providers and callers reach the service. Signatures are checked against it."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.public_host))
    error_message = "A host name such as sms.example.com, without scheme, port or path."
  }
}

variable "image" {
  description = "Image that the very first revision runs, by digest. Later ones are the pipeline's."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image must be named by digest (...@sha256:...): a tag may mean something else tomorrow."
  }
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

  validation {
    condition     = var.scale.min_instances >= 1 && var.scale.max_instances >= var.scale.min_instances
    error_message = "At least one instance must always run, and max_instances must not be smaller."
  }

  validation {
    condition     = var.scale.concurrency >= 1 && var.scale.concurrency <= 1000
    error_message = "Cloud Run takes 1 to 1000 requests at once."
  }

  validation {
    condition     = tonumber(var.scale.cpu) >= 1
    error_message = "CPU that is always allocated needs at least one whole CPU."
  }
}

variable "worker_instances" {
  description = "Instances of a worker pool of its own. 0: none, the service does its background work itself."
  type        = number
  default     = 0

  validation {
    condition     = var.worker_instances >= 0 && floor(var.worker_instances) == var.worker_instances
    error_message = "A whole number, 0 or more."
  }
}

variable "settings" {
  description = "Further settings by the names of .env.example. Never a secret: they stand in the state in the clear."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for name in keys(var.settings) : name == "TOKEN_ISSUER" || !can(regex("TOKEN$|_TOKEN_|SECRET|PASSWORD|_KEY$|^DATABASE_URL$|^REDIS_URL$|^PROVIDERS$", name))
    ])
    error_message = "That is a secret: put it into Secret Manager and name it in `secrets`."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "APP_ENV", "HOST", "PORT", "PUBLIC_BASE_URL", "FORWARDED_HOPS", "OPERATIONS_NETWORKS", "WORK_IN_PROCESS", "WORKER_PORT",
      "SIGNING_KEY_PATH",
    ])) == 0
    error_message = "APP_ENV, HOST, PORT, PUBLIC_BASE_URL, FORWARDED_HOPS, OPERATIONS_NETWORKS, WORK_IN_PROCESS, WORKER_PORT and SIGNING_KEY_PATH follow from other variables."
  }
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

  validation {
    condition     = length(setsubtract(["DATABASE_URL", "ADMIN_API_KEY"], keys(var.secrets))) == 0
    error_message = "DATABASE_URL and ADMIN_API_KEY are needed: without the latter the first key would stand in the logs."
  }

  validation {
    condition     = contains(keys(var.secrets), "PROVIDERS") || contains(keys(var.secrets), "TWILIO_AUTH_TOKEN")
    error_message = "PROVIDERS or TWILIO_AUTH_TOKEN is needed: nothing could be received or sent."
  }
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

  validation {
    condition     = alltrue([for each in var.webhook_allowlist : can(cidrhost(each, 0))])
    error_message = "Networks such as 203.0.113.0/24."
  }
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

  validation {
    condition     = contains([60, 300, 600, 900], var.alerting.uptime_check_period_s)
    error_message = "Uptime checks run every 60, 300, 600 or 900 seconds."
  }
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
