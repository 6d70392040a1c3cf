variable "database" {
  description = "Name of the database in Snowflake."
  type        = string
}

variable "bucket" {
  description = "The bucket."
  type        = string
}

variable "bucket_arn" {
  description = "The bucket."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the bucket."
  type        = string
}

variable "columns" {
  description = "Columns of each table, with the types that Glue has for them."
  type        = map(list(object({ name = string, type = string, comment = string })))
}

variable "comments" {
  description = "What each table holds."
  type        = map(string)
}

variable "queries" {
  description = "Named queries, in Snowflake's dialect."
  type        = map(object({ description = string, sql = string }))
}

variable "snowflake" {
  description = "User and external id of the storage integration; null while they are not known."
  type        = object({ user_arn = string, external_id = string })
}
