output "bucket" {
  description = "For MILLRACE_BUCKET."
  value       = aws_s3_bucket.this.bucket
}

output "bucket_arn" {
  description = "The bucket."
  value       = aws_s3_bucket.this.arn
}

output "workgroups" {
  description = "Athena workgroup of the operators and of each kind of analyst."
  value       = local.workgroups
}

output "policies" {
  description = "For each of them, the policy that its role needs attached."
  value       = { for name, policy in aws_iam_policy.query : name => policy.arn }
}

output "columns" {
  description = "The columns of each table."
  value       = local.columns
}

output "comments" {
  description = "What each table holds."
  value       = { for table, schema in local.schemas : table => schema.doc }
}
