bucket = "example-sms-dev-terraform"
prefix = "sms-foundation"
