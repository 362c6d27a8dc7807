# What the log says that Cloud Run's own metrics do not. The service writes JSON lines: `event` is a static name, and what
# varies stands in fields of its own. Everything finer is at /metrics.

locals {
  log_metrics = {
    webhooks_refused = {
      description = "Webhooks whose signature or account is not ours"
      filter      = "jsonPayload.event=\"http.request\" AND jsonPayload.outcome=(\"invalid_signature\" OR \"unknown_account\")"
    }
    webhooks_not_stored = {
      description = "Webhooks that could not be stored; the provider tries again"
      filter      = "jsonPayload.event=\"http.request\" AND jsonPayload.outcome=(\"unavailable\" OR \"overloaded\" OR \"timeout\" OR \"failed\")"
    }
    account_refused = {
      description = "A provider refuses our account: credentials, balance or suspension"
      filter      = "jsonPayload.event=\"provider.account_refused\""
    }
    work_dead = {
      description = "Background work that failed for good"
      filter      = "jsonPayload.event=(\"work.dead\" OR \"send.needs_a_person\")"
    }
    repaired = {
      description = "Texts and statuses that never reached us and were fetched"
      filter      = "jsonPayload.event=\"reconcile.repaired\""
    }
  }
}

resource "google_logging_metric" "event" {
  for_each = local.log_metrics

  project     = var.project_id
  name        = "${var.name}/${each.key}"
  description = each.value.description
  filter      = "jsonPayload.service=\"sms-foundation\" AND (${each.value.filter})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}
