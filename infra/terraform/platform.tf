module "platform_key" {
  source   = "./modules/key"
  for_each = local.platform

  name        = "${var.name}-platform"
  description = "Kafka, Kubernetes, Redis, credentials and logs of ${var.name}"
  account_id  = local.account
  log_regions = [var.region]
}

module "network" {
  source   = "./modules/network"
  for_each = local.platform

  name   = var.name
  region = var.region
  cidr   = each.value.cidr
  zones  = { for number, zone in each.value.zones : zone => number }
}

module "kafka" {
  source   = "./modules/kafka"
  for_each = local.platform

  name          = var.name
  vpc_id        = module.network["this"].vpc_id
  subnet_ids    = module.network["this"].subnet_ids
  clients       = { kubernetes = module.kubernetes["this"].security_group_id }
  iam_clients   = { connect = module.connect["this"].security_group_id }
  key_arn       = module.platform_key["this"].arn
  kafka_version = each.value.kafka.version
  instance_type = each.value.kafka.instance_type
  volume_gib    = each.value.kafka.volume_gib
  topics        = merge(local.declared.topics, local.intake, local.work)
  users         = toset(concat(keys(local.processes), [for tenant in each.value.producers : "producer-${tenant}"]))
}

module "connect" {
  source   = "./modules/connect"
  for_each = local.platform

  name            = var.name
  account_id      = local.account
  vpc_id          = module.network["this"].vpc_id
  subnet_ids      = module.network["this"].subnet_ids
  kafka_arn       = module.kafka["this"].arn
  bootstrap       = module.kafka["this"].bootstrap_iam
  bucket_arn      = module.lake.bucket_arn
  key_arn         = module.platform_key["this"].arn
  connect_version = each.value.connect_version
  connectors      = each.value.connectors
}

module "kubernetes" {
  source   = "./modules/kubernetes"
  for_each = local.platform

  name               = var.name
  subnet_ids         = module.network["this"].subnet_ids
  key_arn            = module.platform_key["this"].arn
  kubernetes_version = each.value.kubernetes_version
  api_cidrs          = each.value.api_cidrs
  steady             = each.value.steady
  gpu                = each.value.gpu
  namespace          = "millrace"
  identities         = module.roles["this"].arns
}

module "redis" {
  source   = "./modules/redis"
  for_each = local.platform

  name           = var.name
  vpc_id         = module.network["this"].vpc_id
  subnet_ids     = module.network["this"].subnet_ids
  clients        = { kubernetes = module.kubernetes["this"].security_group_id }
  key_arn        = module.platform_key["this"].arn
  engine_version = each.value.redis.version
  node_type      = each.value.redis.node_type
}

module "roles" {
  source   = "./modules/roles"
  for_each = local.platform

  name            = var.name
  account_id      = local.account
  region          = var.region
  bucket_arn      = module.lake.bucket_arn
  bucket_key_arn  = module.lake_key.arn
  secret_arns     = module.kafka["this"].secret_arns
  secrets_key_arn = module.platform_key["this"].arn
  processes       = local.processes
}

locals {
  # Topics that there is one of for each tenant with producers, and for each pool and lane.
  intake = merge([for platform in local.platform : {
    for tenant in platform.producers : "intake.${tenant}" => local.declared.patterns.intake
  }]...)
  work = merge([for platform in local.platform : {
    for pair in setproduct(platform.pools, local.declared.lanes) : "work.${pair[0]}.${pair[1]}" => local.declared.patterns.work
  }]...)

  folders = local.declared.folders

  # Service accounts, which are Kafka users of the same name too.
  processes = { for name, process in {
    admission  = { description = "Flink job: decides", folders = ["flink/admission/"] }
    lake       = { description = "Flink job: writes the tables", folders = concat(["flink/lake/", "erasures/"], [for table in keys(local.declared.tables) : "${table}/"]) }
    gateway    = { description = "HTTP API: files and batches of tenants", folders = local.folders }
    batcher    = { description = "Validates, feeds and completes batches", folders = local.folders }
    relay      = { description = "Stamps what producers write", folders = [] }
    controller = { description = "Circuits, canaries, the configuration", folders = [] }
    live       = { description = "Counts for the live view", folders = [] }
    worker     = { description = "Runs work on GPUs", folders = [] }
  } : name => merge(process, { user = name }) }
}
