# HTTPS only, under the public name. There is no listener on port 80: a webhook that was redirected would carry the
# signature of another URL.

resource "google_compute_global_address" "public" {
  project = var.project_id
  name    = var.name
}

resource "google_compute_managed_ssl_certificate" "public" {
  project = var.project_id
  name    = var.name

  managed {
    domains = [var.public_host]
  }
}

resource "google_compute_ssl_policy" "modern" {
  project         = var.project_id
  name            = var.name
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_region_network_endpoint_group" "service" {
  project               = var.project_id
  name                  = var.name
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = var.service_name
  }
}

resource "google_compute_backend_service" "service" {
  project               = var.project_id
  name                  = var.name
  protocol              = "HTTPS"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  security_policy       = google_compute_security_policy.webhooks.id

  backend {
    group = google_compute_region_network_endpoint_group.service.id
  }

  log_config {
    # The service has a line for every request, with the route and without the number in the path.
    enable = false
  }
}

resource "google_compute_url_map" "service" {
  project         = var.project_id
  name            = var.name
  default_service = google_compute_backend_service.service.id
}

resource "google_compute_target_https_proxy" "service" {
  project          = var.project_id
  name             = var.name
  url_map          = google_compute_url_map.service.id
  ssl_certificates = [google_compute_managed_ssl_certificate.public.id]
  ssl_policy       = google_compute_ssl_policy.modern.id
}

resource "google_compute_global_forwarding_rule" "https" {
  project               = var.project_id
  name                  = var.name
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.public.id
  port_range            = "443"
  target                = google_compute_target_https_proxy.service.id
}
