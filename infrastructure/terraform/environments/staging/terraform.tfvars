# Like production, only smaller: what works here works there.
project_id  = "example-sms-staging"
region      = "us-central1"
environment = "staging"
public_host = "sms-staging.example.com"
image       = "us-central1-docker.pkg.dev/example-sms-staging/sms-foundation/sms-foundation@sha256:0000000000000000000000000000000000000000000000000000000000000000"

scale = {
  max_instances = 4
}

settings = {
  DEFAULT_REGION = "US"
}

secrets = {
  DATABASE_URL    = { secret = "sms-database-url" }
  ADMIN_API_KEY   = { secret = "sms-admin-api-key" }
  PROVIDERS       = { secret = "sms-providers" }
  MONITOR_API_KEY = { secret = "sms-monitor-api-key" }
}

signing_keys_secret = "sms-signing-keys"
migration_database  = { secret = "sms-migration-database-url" }
load_balancer       = true

metrics_collector = {}

alerting = {
  channels = ["projects/example-sms-staging/notificationChannels/1"]
}

github = {
  repository  = "example/sms-foundation"
  environment = "staging"
}

# Production runs the very image that was tried here.
image_readers = ["serviceAccount:sms-foundation-deploy@example-sms-production.iam.gserviceaccount.com"]
