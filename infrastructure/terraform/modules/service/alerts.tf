locals {
  runbook     = "What to do: docs/runbook.md in the repository, section"
  on_service  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""
  from_events = "resource.type=one_of(\"cloud_run_revision\",\"cloud_run_worker_pool\")"

  # Alerts that only count log lines: how many within ten minutes are too many.
  event_alerts = {
    webhooks_refused    = { threshold = var.alerting.refused_webhooks_10m, severity = "CRITICAL", section = "SmsSignatureFailures" }
    webhooks_not_stored = { threshold = 5, severity = "CRITICAL", section = "SmsWebhooksNotStored" }
    account_refused     = { threshold = 0, severity = "CRITICAL", section = "SmsAccountRefused" }
    work_dead           = { threshold = 0, severity = "WARNING", section = "SmsDeadWork" }
    repaired            = { threshold = 0, severity = "WARNING", section = "SmsRepaired" }
  }
}

resource "google_monitoring_alert_policy" "down" {
  project               = var.project_id
  display_name          = "${var.name}: cannot be reached"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.alerting.channels

  conditions {
    display_name = "Uptime check fails from more than one place"

    condition_threshold {
      filter          = "metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND resource.type=\"uptime_url\" AND metric.labels.check_id=\"${google_monitoring_uptime_check_config.ready.uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "120s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }

  documentation {
    content = "${local.runbook} SmsServiceDown."
  }
}

resource "google_monitoring_alert_policy" "errors" {
  project               = var.project_id
  display_name          = "${var.name}: requests fail"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.alerting.channels

  conditions {
    display_name = "Share of 5xx answers"

    condition_threshold {
      filter             = "metric.type=\"run.googleapis.com/request_count\" AND ${local.on_service} AND metric.labels.response_code_class=\"5xx\""
      denominator_filter = "metric.type=\"run.googleapis.com/request_count\" AND ${local.on_service}"
      comparison         = "COMPARISON_GT"
      threshold_value    = var.alerting.error_ratio
      duration           = "300s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }

      denominator_aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "${local.runbook} SmsErrorRateHigh."
  }
}

resource "google_monitoring_alert_policy" "latency" {
  project               = var.project_id
  display_name          = "${var.name}: answers are slow"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.alerting.channels

  conditions {
    display_name = "One in a hundred takes too long"

    condition_threshold {
      filter          = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local.on_service}"
      comparison      = "COMPARISON_GT"
      threshold_value = var.alerting.latency_p99_ms
      duration        = "600s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_PERCENTILE_99"
      }
    }
  }

  documentation {
    content = "${local.runbook} SmsAnswersSlow."
  }
}

resource "google_monitoring_alert_policy" "event" {
  for_each = local.event_alerts

  project               = var.project_id
  display_name          = "${var.name}: ${google_logging_metric.event[each.key].description}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.alerting.channels

  conditions {
    display_name = "More than ${each.value.threshold} in ten minutes"

    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.event[each.key].name}\" AND ${local.from_events}"
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "${local.runbook} ${each.value.section}."
  }
}
