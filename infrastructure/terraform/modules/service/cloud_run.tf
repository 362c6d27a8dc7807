# The service. Terraform says what it is like; which image runs, and how much of the traffic each revision gets, is the
# pipeline's business and left alone here.

resource "google_cloud_run_v2_service" "service" {
  project             = var.project_id
  name                = var.name
  location            = var.region
  description         = "Every text message comes in and goes out here"
  ingress             = var.load_balancer ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.runtime.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = var.scale.concurrency
    timeout                          = "60s"

    scaling {
      min_instance_count = var.scale.min_instances
      max_instance_count = var.scale.max_instances
    }

    containers {
      name  = "service"
      image = var.image
      args  = ["serve"]

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = var.scale.cpu
          memory = var.scale.memory
        }

        # Work goes on after a response and between requests: the CPU is never taken away.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(local.settings, {
          SIGNING_KEY_PATH = local.signing_keys_folder
          WORK_IN_PROCESS  = tostring(!local.has_workers)
        })

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

      volume_mounts {
        name       = "signing-keys"
        mount_path = local.signing_keys_folder
      }

      # No request comes before the schema is current and the process has warmed up; two minutes to get there.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60

        http_get {
          path = "/health/startup"
        }
      }

      # A process that cannot answer at all is replaced. A database that is away is no reason to.
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 3
        failure_threshold = 3

        http_get {
          path = "/health/live"
        }
      }
    }

    # Asks for /metrics at port 8080 every half a minute, and once more when the instance goes.
    # Source: https://cloud.google.com/stackdriver/docs/managed-prometheus/cloudrun-sidecar (read November 2026)
    dynamic "containers" {
      for_each = var.metrics_collector[*]

      content {
        name       = "metrics"
        image      = containers.value.image
        depends_on = ["service"]

        resources {
          cpu_idle = false
        }
      }
    }

    volumes {
      name = "signing-keys"

      secret {
        secret = var.signing_keys_secret

        items {
          version = "latest"
          path    = "current.pem"
        }
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
    precondition {
      condition     = length(var.webhook_allowlist) == 0 || var.load_balancer
      error_message = "webhook_allowlist works at the load balancer: set load_balancer."
    }

    ignore_changes = [
      client,
      client_version,
      template[0].containers[0].image,
      template[0].labels,
      template[0].revision,
      traffic,
    ]
  }

  depends_on = [google_secret_manager_secret_iam_member.runtime]
}

# Providers cannot log in at Google: they prove who they are by signature, everybody else by the service's own keys.
resource "google_cloud_run_v2_service_iam_member" "public" {
  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.service.name
  role     = "roles/run.invoker"
  member   = "allUsers"
}
