variable "name" {
  description = "Prefix of every name; also the MSK cluster, the EKS cluster and the Redis group."
  type        = string
  default     = "millrace"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "Small letters, digits and hyphens, at most 31 characters: several services demand it."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket that holds the lake, the files and the batches. The stack gets it as MILLRACE_BUCKET."
  type        = string
}

variable "database" {
  description = "Glue database of the tables; Athena's workgroups and Snowflake's database are called by it."
  type        = string
  default     = "millrace"
}

variable "first_day" {
  description = "First day that Athena looks for, YYYY-MM-DD: the day the stack began."
  type        = string

  validation {
    condition     = can(formatdate("YYYY", "${var.first_day}T00:00:00Z"))
    error_message = "A day as YYYY-MM-DD."
  }
}

variable "query_limit_bytes" {
  description = "The most that one Athena query may scan; from 10 MB."
  type        = number
  default     = 1099511627776

  validation {
    condition     = var.query_limit_bytes >= 10485760
    error_message = "Athena takes no limit below 10485760 bytes."
  }
}

variable "query_results_days" {
  description = "How long results of Athena queries are kept."
  type        = number
  default     = 7
}

variable "longest_outage_days" {
  description = "The longest that Kafka, Flink or S3 may be away without losing rows. S3 keeps unfinished uploads a day longer."
  type        = number
  default     = 14

  validation {
    condition     = var.longest_outage_days >= 1 && var.longest_outage_days <= 30
    error_message = "From 1 to 30 days: the topic `usage` keeps its records for thirty."
  }
}

variable "retention_days" {
  description = "Days after which objects below a folder (of a table such as `responses`) are deleted."
  type        = map(number)
  default     = {}
}

variable "administrators" {
  description = "ARNs of Lake Formation's administrators, which replace those the account has. Empty: its settings stay as they are."
  type        = list(string)
  default     = []
}

variable "analysts" {
  description = "By name: a role, the only tenant it sees, and whether it sees prompts and answers (`texts`)."
  type        = map(object({ role_arn = string, tenant = string, texts = optional(bool, false) }))
  default     = {}

  validation {
    condition     = !contains(keys(var.analysts), "operators")
    error_message = "`operators` is the workgroup of the operators: call this analyst something else."
  }

  validation {
    condition     = alltrue([for analyst in values(var.analysts) : can(regex("^[A-Za-z0-9._-]+$", analyst.tenant))])
    error_message = "A tenant's name stands in a row filter: letters, digits, dot, underscore and hyphen only."
  }
}

variable "operators" {
  description = "By name: roles that see all tenants."
  type        = map(object({ role_arn = string }))
  default     = {}
}

variable "emails" {
  description = "Who is told of alarms and of the budget."
  type        = set(string)

  validation {
    condition     = length(var.emails) > 0
    error_message = "An alarm that nobody hears is none: name an address at least."
  }
}

variable "monthly_usd" {
  description = "What a month may cost."
  type        = number
}

variable "lake_lag_records" {
  description = "Usage records that the lake may be behind for ten minutes before somebody is told."
  type        = number
  default     = 100000
}

variable "snowflake" {
  description = "What Snowflake's storage integration says of itself (DESC INTEGRATION); null for no Snowflake, or not yet."
  type        = object({ user_arn = string, external_id = string })
  default     = null
}

variable "platform" {
  description = "What runs the stack; null where it runs elsewhere and only the lake is here."
  type = object({
    zones     = list(string)
    cidr      = optional(string, "10.20.0.0/16")
    pools     = set(string)
    producers = optional(set(string), [])

    kafka = optional(object({
      version       = optional(string, "3.9.x.kraft")
      instance_type = optional(string, "kafka.m7g.large")
      volume_gib    = optional(number, 500)
    }), {})

    connect_version = optional(string, "3.7.x")
    connectors = optional(map(object({
      plugin      = string
      settings    = map(string)
      topics      = list(string)
      max_workers = optional(number, 2)
    })), {})

    kubernetes_version = optional(string, "1.33")
    api_cidrs          = optional(list(string), [])
    steady             = optional(object({ instance_types = list(string), nodes = number }), { instance_types = ["m7i.xlarge"], nodes = 3 })
    gpu = optional(object({ instance_types = list(string), min = number, max = number, volume_gib = number }), {
      instance_types = ["g6.xlarge", "g6.2xlarge", "g5.xlarge", "g5.2xlarge"], min = 0, max = 4, volume_gib = 200
    })

    redis = optional(object({
      version   = optional(string, "8.0")
      node_type = optional(string, "cache.t4g.small")
    }), {})
  })
  default = null

  validation {
    condition     = var.platform == null ? true : length(var.platform.zones) >= 3
    error_message = "Three zones at least: with two, losing one stops all writes to Kafka."
  }
}
