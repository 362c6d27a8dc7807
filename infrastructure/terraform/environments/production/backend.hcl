bucket = "example-sms-production-terraform"
prefix = "sms-foundation"
