# For trying things out: one small instance, no alerts to anybody, and it may be destroyed.
project_id  = "example-sms-dev"
region      = "us-central1"
environment = "development"
public_host = "sms-dev.example.com"
image       = "us-central1-docker.pkg.dev/example-sms-dev/sms-foundation/sms-foundation@sha256:0000000000000000000000000000000000000000000000000000000000000000"

scale = {
  max_instances = 2
}

settings = {
  LOG_LEVEL      = "DEBUG"
  DEFAULT_REGION = "US"
}

secrets = {
  DATABASE_URL       = { secret = "sms-database-url" }
  ADMIN_API_KEY      = { secret = "sms-admin-api-key" }
  TWILIO_ACCOUNT_SID = { secret = "sms-twilio-account-sid" }
  TWILIO_AUTH_TOKEN  = { secret = "sms-twilio-auth-token" }
}

signing_keys_secret = "sms-signing-keys"
deletion_protection = false

github = {
  repository  = "example/sms-foundation"
  environment = "dev"
}
