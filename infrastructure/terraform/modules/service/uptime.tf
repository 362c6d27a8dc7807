# Asked from several continents, under the public name: is it there, and can it reach its database?

resource "google_monitoring_uptime_check_config" "ready" {
  project          = var.project_id
  display_name     = "${var.name} ready"
  timeout          = "10s"
  period           = "${var.alerting.uptime_check_period_s}s"
  selected_regions = ["USA", "EUROPE", "ASIA_PACIFIC"]
  checker_type     = "STATIC_IP_CHECKERS"

  http_check {
    path         = "/health/ready"
    port         = 443
    use_ssl      = true
    validate_ssl = true

    accepted_response_status_codes {
      status_value = 200
    }
  }

  monitored_resource {
    type = "uptime_url"

    labels = {
      project_id = var.project_id
      host       = var.public_host
    }
  }
}
