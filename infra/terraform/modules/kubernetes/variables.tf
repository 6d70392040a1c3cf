variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "partition" {
  description = "AWS partition."
  type        = string
  default     = "aws"
}

variable "subnet_ids" {
  description = "Subnets of control plane and nodes."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of Kubernetes' secrets and of the logs."
  type        = string
}

variable "kubernetes_version" {
  description = "Version of the control plane."
  type        = string
}

variable "api_cidrs" {
  description = "Addresses from which the API may be reached over the internet; none, and it is reached from the VPC only."
  type        = list(string)
}

variable "steady" {
  description = "Nodes that are always there: Flink, gateway, batcher, relay."
  type        = object({ instance_types = list(string), nodes = number })
}

variable "gpu" {
  description = "Spot nodes of the workers."
  type        = object({ instance_types = list(string), min = number, max = number, volume_gib = number })
}

variable "namespace" {
  description = "Namespace of our pods."
  type        = string
}

variable "identities" {
  description = "Role of each service account of ours."
  type        = map(string)
}
