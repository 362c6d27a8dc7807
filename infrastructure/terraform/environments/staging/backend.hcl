bucket = "example-sms-staging-terraform"
prefix = "sms-foundation"
