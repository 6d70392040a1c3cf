variable "name" {
  description = "Name of the replication group."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the nodes."
  type        = list(string)
}

variable "clients" {
  description = "Security groups whose members may connect, by what they are."
  type        = map(string)
}

variable "key_arn" {
  description = "KMS key of what lies on disk."
  type        = string
}

variable "engine_version" {
  description = "Valkey's version, as ElastiCache names it."
  type        = string
}

variable "node_type" {
  description = "Type of the two nodes."
  type        = string
}
