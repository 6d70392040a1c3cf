output "arn" {
  description = "The cluster."
  value       = aws_msk_cluster.this.arn
}

output "name" {
  description = "The cluster's name."
  value       = aws_msk_cluster.this.cluster_name
}

output "bootstrap" {
  description = "Addresses for SCRAM over TLS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "bootstrap_iam" {
  description = "Addresses for IAM over TLS: MSK Connect."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_iam
}

output "security_group_id" {
  description = "The brokers."
  value       = aws_security_group.this.id
}

output "secret_arns" {
  description = "Where each user's credentials are to be put."
  value       = { for user, secret in aws_secretsmanager_secret.user : user => secret.arn }
}
