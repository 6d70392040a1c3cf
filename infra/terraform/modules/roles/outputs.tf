output "arns" {
  description = "Role of each process."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}
