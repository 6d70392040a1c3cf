output "bucket" {
  description = "For MILLRACE_BUCKET."
  value       = module.lake.bucket
}

output "workgroups" {
  description = "Athena workgroup of the operators and of each kind of analyst."
  value       = module.lake.workgroups
}

output "policies" {
  description = "The policy to attach to the role of the operators and of each kind of analyst."
  value       = module.lake.policies
}

output "snowflake_ddl" {
  description = "Statements that show the lake to Snowflake: `terraform output -raw snowflake_ddl`, run as its account administrator."
  value       = module.snowflake.ddl
}

output "kafka" {
  description = "Addresses for SCRAM over TLS; null without a platform."
  value       = one([for kafka in module.kafka : kafka.bootstrap])
}

output "secrets" {
  description = "Where the SCRAM credentials of each user are to be put."
  value       = one([for kafka in module.kafka : kafka.secret_arns])
}

output "redis" {
  description = "For MILLRACE_REDIS; null without a platform."
  value       = one([for redis in module.redis : redis.url])
}

output "kubernetes" {
  description = "What cluster/ needs to reach the EKS cluster; null without a platform."
  value       = one([for kubernetes in module.kubernetes : { name = kubernetes.name, endpoint = kubernetes.endpoint, certificate = kubernetes.certificate }])
}
