locals {
  public_base_url = "https://${var.public_host}"

  # A pool of its own takes the background work off the service.
  has_workers = var.worker_instances > 0

  # Everything but secrets. What providers call back and what signatures are checked against must be the same everywhere.
  settings = merge(
    {
      LOG_FORMAT = "json"
      # Log lines link to their traces.
      GOOGLE_CLOUD_PROJECT = var.project_id
    },
    var.settings,
    {
      APP_ENV         = var.environment
      PUBLIC_BASE_URL = local.public_base_url
      # The load balancer adds the caller's address and its own; Cloud Run alone adds the caller's.
      FORWARDED_HOPS      = var.load_balancer ? "2" : "1"
      OPERATIONS_NETWORKS = join(",", local.operations_networks)
    },
  )

  # Where /health and /metrics answer without a key: probes from inside the instance, and Google's uptime checks.
  operations_networks = concat(
    ["127.0.0.0/8", "169.254.0.0/16"],
    [for each in data.google_monitoring_uptime_check_ips.all.uptime_check_ips : each.ip_address],
  )

  signing_keys_folder = "/secrets/signing-keys"

  # Migrations read the same settings, with another database where one is given.
  migration_secrets = merge(
    var.secrets,
    var.migration_database == null ? {} : { DATABASE_URL = var.migration_database },
  )
}

data "google_monitoring_uptime_check_ips" "all" {}
