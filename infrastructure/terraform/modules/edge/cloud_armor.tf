# Who may call the webhook paths. Signatures are checked all the same: this keeps strangers from costing anything.

locals {
  webhook_path = "request.path.startsWith('/webhook/')"

  # An expression of Cloud Armor takes five conditions: the path, and four networks.
  # Source: https://cloud.google.com/armor/docs/rules-language-reference
  allowed = chunklist(var.webhook_allowlist, 4)
}

resource "google_compute_security_policy" "webhooks" {
  project = var.project_id
  name    = "${var.name}-webhooks"
  type    = "CLOUD_ARMOR"

  dynamic "rule" {
    for_each = local.allowed

    content {
      priority    = 1000 + rule.key
      action      = "allow"
      description = "Networks of providers"

      match {
        expr {
          expression = "${local.webhook_path} && (${join(" || ", [for network in rule.value : "inIpRange(origin.ip, '${network}')"])})"
        }
      }
    }
  }

  dynamic "rule" {
    for_each = length(local.allowed) > 0 ? [403] : []

    content {
      priority    = 2000
      action      = "deny(${rule.value})"
      description = "Webhooks from anywhere else"

      match {
        expr {
          expression = local.webhook_path
        }
      }
    }
  }

  rule {
    priority    = 2147483647
    action      = "allow"
    description = "Everything else: the service asks for credentials itself"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }
}
