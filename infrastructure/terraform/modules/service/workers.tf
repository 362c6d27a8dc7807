# Background work in instances of its own, for those who send much: they scale apart from requests and restart apart.

resource "google_cloud_run_v2_worker_pool" "workers" {
  count = local.has_workers ? 1 : 0

  project             = var.project_id
  name                = "${var.name}-workers"
  location            = var.region
  launch_stage        = "BETA"
  deletion_protection = var.deletion_protection

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.worker_instances
  }

  template {
    service_account = google_service_account.runtime.email

    containers {
      name  = "worker"
      image = var.image
      args  = ["worker"]

      resources {
        limits = {
          cpu    = var.scale.cpu
          memory = var.scale.memory
        }
      }

      # As for the service: two minutes to begin, and a worker that hangs is replaced.
      # Source: https://cloud.google.com/run/docs/configuring/workerpools/healthchecks (read November 2026)
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60

        http_get {
          path = "/health/startup"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 3
        failure_threshold = 3

        http_get {
          path = "/health/live"
          port = 8080
        }
      }

      dynamic "env" {
        for_each = merge(local.settings, { WORKER_PORT = "8080" })

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secrets

        content {
          name = env.key

          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }
    }

    dynamic "containers" {
      for_each = var.metrics_collector[*]

      content {
        name  = "metrics"
        image = containers.value.image
      }
    }

    dynamic "vpc_access" {
      for_each = var.network[*]

      content {
        egress = "PRIVATE_RANGES_ONLY"

        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [
      client,
      client_version,
      template[0].containers[0].image,
      template[0].revision,
    ]
  }

  depends_on = [google_secret_manager_secret_iam_member.runtime]
}
