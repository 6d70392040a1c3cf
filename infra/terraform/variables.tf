variable "region" {
  description = "AWS region of the lake."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket that holds the lake, the files and the batches. The stack gets it as MILLRACE_BUCKET."
  type        = string
}

variable "database" {
  description = "Glue database of the lake's tables."
  type        = string
  default     = "millrace"
}

variable "first_day" {
  description = "First day Athena looks for, YYYY-MM-DD: the day the stack began."
  type        = string
  default     = "2026-01-01"
}

variable "query_limit_bytes" {
  description = "The most a single Athena query may scan."
  type        = number
  default     = 1099511627776
}

variable "query_results_days" {
  description = "How long results of Athena queries are kept."
  type        = number
  default     = 7
}
