# The lake alone, with an analyst of one tenant. `terraform test`, 1.11 or newer; nothing is made in AWS.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/lake" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::acme-millrace" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:111122223333:files" }
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
}

variables {
  region      = "eu-central-1"
  bucket      = "acme-millrace"
  first_day   = "2026-11-01"
  emails      = ["oncall@example.com"]
  monthly_usd = 100
}

run "lake" {
  command = plan

  variables {
    administrators = ["arn:aws:iam::111122223333:role/admin"]
    operators      = { finance = { role_arn = "arn:aws:iam::111122223333:role/finance" } }
    analysts = {
      acme       = { role_arn = "arn:aws:iam::111122223333:role/acme", tenant = "acme" }
      acme_texts = { role_arn = "arn:aws:iam::111122223333:role/acme-texts", tenant = "acme", texts = true }
    }
    retention_days = { responses = 90 }
  }

  assert {
    condition     = length(output.workgroups) == 3
    error_message = "One workgroup for operators and one for each kind of analyst."
  }

  assert {
    condition     = output.kafka == null && output.kubernetes == null
    error_message = "Without a platform there is only the lake."
  }
}


run "an_outage_longer_than_the_topics_keep_is_refused" {
  command = plan

  variables {
    longest_outage_days = 31
  }

  expect_failures = [var.longest_outage_days]
}

run "a_limit_below_that_of_athena_is_refused" {
  command = plan

  variables {
    query_limit_bytes = 1000
  }

  expect_failures = [var.query_limit_bytes]
}

run "a_day_is_a_day" {
  command = plan

  variables {
    first_day = "yesterday"
  }

  expect_failures = [var.first_day]
}

run "no_tenant_breaks_out_of_its_row_filter" {
  command = plan

  variables {
    analysts = { mallory = { role_arn = "arn:aws:iam::111122223333:role/m", tenant = "a' OR '1'='1" } }
  }

  expect_failures = [var.analysts]
}

run "nobody_takes_the_place_of_the_operators" {
  command = plan

  variables {
    analysts = { operators = { role_arn = "arn:aws:iam::111122223333:role/m", tenant = "acme" } }
  }

  expect_failures = [var.analysts]
}

run "snowflake" {
  command = plan

  variables {
    snowflake = { user_arn = "arn:aws:iam::999900001111:user/snow", external_id = "SFC=1" }
  }

  assert {
    condition     = strcontains(output.snowflake_ddl, "CREATE OR REPLACE EXTERNAL TABLE millrace.files.usage (")
    error_message = "The statements are for the tables of the lake."
  }
}
