# Millrace in AWS. The lake stands by itself: bucket, tables, Athena, grants. With `platform` there is also what runs the
# stack: Kafka, Kubernetes, Redis, and the roles of our processes. What runs inside of Kubernetes is in cluster/.

data "aws_caller_identity" "this" {}

locals {
  account = data.aws_caller_identity.this.account_id

  # Topics, tables and queries as the code declares them: `make records` writes the file.
  declared = jsondecode(file("${path.module}/declared.json"))

  # Nothing is made of these where the stack runs elsewhere.
  platform = var.platform == null ? {} : { this = var.platform }
}

module "lake_key" {
  source = "./modules/key"

  name        = "${var.name}-lake"
  description = "The bucket of ${var.name}"
  account_id  = local.account
}

module "lake" {
  source = "./modules/lake"

  bucket              = var.bucket
  database            = var.database
  account_id          = local.account
  region              = var.region
  key_arn             = module.lake_key.arn
  schemas             = "${path.module}/../../schemas/avro"
  tables              = local.declared.tables
  queries             = local.declared.queries.athena
  first_day           = var.first_day
  query_limit_bytes   = var.query_limit_bytes
  query_results_days  = var.query_results_days
  longest_outage_days = var.longest_outage_days
  retention_days      = var.retention_days
  administrators      = var.administrators
  analysts            = var.analysts
  operators           = var.operators
}

module "snowflake" {
  source = "./modules/snowflake"

  database   = var.database
  bucket     = module.lake.bucket
  bucket_arn = module.lake.bucket_arn
  region     = var.region
  key_arn    = module.lake_key.arn
  columns    = module.lake.columns
  comments   = module.lake.comments
  queries    = local.declared.queries.snowflake
  snowflake  = var.snowflake
}

module "watch" {
  source = "./modules/watch"

  name              = var.name
  emails            = var.emails
  monthly_usd       = var.monthly_usd
  workgroups        = toset(values(module.lake.workgroups))
  athena_bytes_hour = var.query_limit_bytes
  kafka             = one([for kafka in module.kafka : kafka.name])
  brokers           = one([for platform in local.platform : length(platform.zones)])
  lake_lag_records  = var.lake_lag_records
  redis             = one([for redis in module.redis : redis.name])
}
