output "security_group_id" {
  description = "The workers."
  value       = aws_security_group.this.id
}
