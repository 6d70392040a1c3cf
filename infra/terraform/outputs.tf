output "bucket" {
  description = "For MILLRACE_BUCKET."
  value       = aws_s3_bucket.lake.bucket
}

output "workgroup" {
  description = "Athena workgroup to query in."
  value       = aws_athena_workgroup.lake.name
}

output "snowflake_ddl" {
  description = "Statements that show the lake to Snowflake: `terraform output -raw snowflake_ddl`, run as its account administrator."
  value = templatefile("${path.module}/snowflake.sql.tftpl", {
    bucket   = aws_s3_bucket.lake.bucket
    database = var.database
    tables   = local.tables
    types    = local.snowflake_types
  })
}
