# Everything, as an example deployment has it.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mocked" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::acme-millrace" }
  }

  mock_resource "aws_msk_cluster" {
    defaults = { arn = "arn:aws:kafka:eu-central-1:111122223333:cluster/millrace/0a1b" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/mocked" }
  }

  mock_resource "aws_athena_workgroup" {
    defaults = { arn = "arn:aws:athena:eu-central-1:111122223333:workgroup/mocked" }
  }

  mock_resource "aws_glue_catalog_database" {
    defaults = { arn = "arn:aws:glue:eu-central-1:111122223333:database/millrace" }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:mocked" }
  }
}

variables {
  region      = "eu-central-1"
  bucket      = "acme-millrace"
  first_day   = "2026-11-01"
  emails      = ["oncall@example.com"]
  monthly_usd = 5000

  platform = {
    zones     = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
    pools     = ["r1", "distill"]
    producers = ["acme"]

    connectors = {
      mqtt = {
        plugin   = "plugins/mqtt.zip"
        settings = { "connector.class" = "a.Connector", "tasks.max" = "1" }
        topics   = ["intake.acme"]
      }
    }
  }
}

run "platform" {
  command = plan
}

run "two_zones_are_too_few" {
  command = plan

  variables {
    platform = { zones = ["eu-central-1a", "eu-central-1b"], pools = ["r1"] }
  }

  expect_failures = [var.platform]
}

run "somebody_must_hear_the_alarms" {
  command = plan

  variables {
    emails = []
  }

  expect_failures = [var.emails]
}
