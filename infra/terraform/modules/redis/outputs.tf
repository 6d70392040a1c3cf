output "url" {
  description = "For MILLRACE_REDIS."
  value       = "rediss://${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
}

output "name" {
  description = "The replication group."
  value       = aws_elasticache_replication_group.this.replication_group_id
}
