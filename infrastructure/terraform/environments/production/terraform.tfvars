project_id  = "example-sms-production"
region      = "us-central1"
environment = "production"
public_host = "sms.example.com"
image       = "us-central1-docker.pkg.dev/example-sms-production/sms-foundation/sms-foundation@sha256:0000000000000000000000000000000000000000000000000000000000000000"

scale = {
  min_instances = 2
  max_instances = 20
  cpu           = "2"
  memory        = "1Gi"
}

worker_instances = 2

settings = {
  DEFAULT_REGION = "US"
}

# Pinned, so that a rotation is a change like any other and can be undone like any other.
secrets = {
  DATABASE_URL    = { secret = "sms-database-url", version = "1" }
  ADMIN_API_KEY   = { secret = "sms-admin-api-key", version = "1" }
  PROVIDERS       = { secret = "sms-providers", version = "1" }
  MONITOR_API_KEY = { secret = "sms-monitor-api-key", version = "1" }
}

signing_keys_secret = "sms-signing-keys"
migration_database  = { secret = "sms-migration-database-url", version = "1" }
load_balancer       = true
providers_named     = ["twilio", "telnyx"]

metrics_collector = {}

alerting = {
  channels              = ["projects/example-sms-production/notificationChannels/1"]
  uptime_check_period_s = 60
}

github = {
  repository  = "example/sms-foundation"
  environment = "production"
}
