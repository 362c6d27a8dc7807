# What the module refuses, and what it makes of its variables. Without an account: terraform test

mock_provider "google" {}

variables {
  project_id          = "example"
  region              = "us-central1"
  environment         = "staging"
  public_host         = "sms.example.com"
  image               = "us-central1-docker.pkg.dev/example/sms-foundation/sms-foundation@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  signing_keys_secret = "sms-signing-keys"

  secrets = {
    DATABASE_URL      = { secret = "sms-database-url" }
    ADMIN_API_KEY     = { secret = "sms-admin-api-key" }
    TWILIO_AUTH_TOKEN = { secret = "sms-twilio-auth-token", version = "7" }
  }
}

run "plain" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[0].resources[0].cpu_idle == false
    error_message = "Work runs after the response: the CPU must always be allocated."
  }

  assert {
    condition     = google_cloud_run_v2_service.service.template[0].scaling[0].min_instance_count == 1
    error_message = "One instance must always run."
  }

  assert {
    condition     = output.webhook_urls.twilio.incoming_message == "https://sms.example.com/webhook/twilio/sms#rc=5&rp=all"
    error_message = "The URL to paste into Twilio's console."
  }

  assert {
    condition     = length(google_cloud_run_v2_worker_pool.workers) == 0 && length(module.edge) == 0
    error_message = "Workers of their own and a load balancer are optional."
  }

  assert {
    condition     = length(google_cloud_run_v2_service.service.template[0].containers) == 1 && length(google_project_iam_member.writes_metrics) == 0
    error_message = "A collector of metrics is optional, and so is the role it needs."
  }
}

run "with_everything" {
  command = plan

  module {
    source = "./modules/service"
  }

  variables {
    worker_instances   = 3
    load_balancer      = true
    webhook_allowlist  = ["203.0.113.0/24"]
    migration_database = { secret = "sms-migration-database-url" }
    network            = { network = "vpc", subnetwork = "sms" }
    metrics_collector  = {}
  }

  assert {
    condition     = google_cloud_run_v2_service.service.template[0].containers[1].name == "metrics" && google_cloud_run_v2_worker_pool.workers[0].template[0].containers[1].name == "metrics"
    error_message = "The collector stands beside the service and beside every worker."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.workers[0].scaling[0].manual_instance_count == 3
    error_message = "As many workers as asked for."
  }

  assert {
    condition     = google_cloud_run_v2_service.service.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    error_message = "Nothing may go past the load balancer, or the allowlist means nothing."
  }

  assert {
    condition     = contains(keys(google_secret_manager_secret_iam_member.migration), "sms-migration-database-url") && !contains(keys(google_secret_manager_secret_iam_member.runtime), "sms-migration-database-url")
    error_message = "Only migrations may read the owner's password."
  }
}

run "refuses_no_instance" {
  command         = plan
  expect_failures = [var.scale]

  module {
    source = "./modules/service"
  }

  variables {
    scale = { min_instances = 0 }
  }
}

run "refuses_an_image_by_tag" {
  command         = plan
  expect_failures = [var.image]

  module {
    source = "./modules/service"
  }

  variables {
    image = "us-central1-docker.pkg.dev/example/sms-foundation/sms-foundation:latest"
  }
}

run "refuses_secrets_among_the_settings" {
  command         = plan
  expect_failures = [var.settings]

  module {
    source = "./modules/service"
  }

  variables {
    settings = { MONITOR_API_KEY = "in the clear" }
  }
}

run "refuses_a_first_key_in_the_log" {
  command         = plan
  expect_failures = [var.secrets]

  module {
    source = "./modules/service"
  }

  variables {
    secrets = {
      DATABASE_URL = { secret = "sms-database-url" }
      PROVIDERS    = { secret = "sms-providers" }
    }
  }
}

run "refuses_an_allowlist_that_nothing_enforces" {
  command         = plan
  expect_failures = [google_cloud_run_v2_service.service]

  module {
    source = "./modules/service"
  }

  variables {
    webhook_allowlist = ["203.0.113.0/24"]
  }
}
