variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "emails" {
  description = "Who is told."
  type        = set(string)
}

variable "monthly_usd" {
  description = "What a month may cost."
  type        = number
}

variable "workgroups" {
  description = "Athena workgroups."
  type        = set(string)
}

variable "athena_bytes_hour" {
  description = "What one workgroup may scan in an hour before somebody is told."
  type        = number
}

variable "kafka" {
  description = "Name of the MSK cluster; null for none."
  type        = string
}

variable "brokers" {
  description = "How many brokers it has."
  type        = number
}

variable "lake_lag_records" {
  description = "Usage records that the lake may be behind."
  type        = number
}

variable "redis" {
  description = "Name of the replication group; null for none."
  type        = string
}
