variable "bucket" {
  description = "Name of the bucket. The stack gets it as MILLRACE_BUCKET."
  type        = string
}

variable "database" {
  description = "Glue database of the tables, and name of the Athena workgroup."
  type        = string
}

variable "account_id" {
  description = "Account of the catalogue."
  type        = string
}

variable "region" {
  description = "Region of the lake."
  type        = string
}

variable "partition" {
  description = "AWS partition."
  type        = string
  default     = "aws"
}

variable "key_arn" {
  description = "KMS key of the bucket."
  type        = string
}

variable "schemas" {
  description = "Folder of the .avsc files."
  type        = string
}

variable "tables" {
  description = "Tables: the .avsc file of each, and the field whose hour is its partition."
  type        = map(object({ schema = string, time = string }))
}

variable "queries" {
  description = "Named queries, in Athena's dialect."
  type        = map(object({ description = string, sql = string }))
}

variable "first_day" {
  description = "First day that Athena looks for, YYYY-MM-DD: the day the stack began."
  type        = string
}

variable "query_limit_bytes" {
  description = "The most that one Athena query may scan."
  type        = number
}

variable "query_results_days" {
  description = "How long results of Athena queries are kept."
  type        = number
}

variable "longest_outage_days" {
  description = "The longest the lake job may stand still without losing rows of uploads it had begun."
  type        = number
}

variable "retention_days" {
  description = "Days after which objects below a folder (of a table, or `files`) are deleted; kept for ever if not named."
  type        = map(number)
}

variable "administrators" {
  description = "ARNs of Lake Formation's administrators, which replace those the account has: the one who runs Terraform is to be among them. Empty: the account's settings stay as they are."
  type        = list(string)
}

variable "analysts" {
  description = "By name: a role, the only tenant it sees, and whether it sees prompts and answers. `operators` is taken."
  type        = map(object({ role_arn = string, tenant = string, texts = bool }))
}

variable "operators" {
  description = "By name: roles that see everything."
  type        = map(object({ role_arn = string }))
}
