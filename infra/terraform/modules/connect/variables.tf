variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "account_id" {
  description = "Account of the connectors."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the workers."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the workers."
  type        = list(string)
}

variable "kafka_arn" {
  description = "The MSK cluster."
  type        = string
}

variable "bootstrap" {
  description = "Its addresses for IAM over TLS."
  type        = string
}

variable "bucket_arn" {
  description = "Bucket of the plugins' archives."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the logs."
  type        = string
}

variable "connect_version" {
  description = "Kafka Connect's version, as MSK Connect names it."
  type        = string
}

variable "connectors" {
  description = "Connectors: key of the plugin's ZIP in the bucket, settings, the topics it writes, the most workers."
  type = map(object({
    plugin      = string
    settings    = map(string)
    topics      = list(string)
    max_workers = number
  }))
}
