variable "region" {
  description = "AWS region of the cluster."
  type        = string
}

variable "kubernetes" {
  description = "Output `kubernetes` of the other configuration."
  type        = object({ name = string, endpoint = string, certificate = string })
}

variable "bucket" {
  description = "Its output `bucket`: checkpoints and savepoints lie below flink/."
  type        = string
}

variable "image" {
  description = "Image of the jobs: Flink's own image with this checkout in /millrace, installed."
  type        = string
}

variable "flink_version" {
  description = "Flink's version, as the operator names it."
  type        = string
  default     = "v2_3"
}

variable "operator_version" {
  description = "Version of Flink's Kubernetes operator."
  type        = string
  default     = "1.14.0"
}

variable "environment" {
  description = "MILLRACE_KAFKA, MILLRACE_REGISTRY and the others that schemas/addresses.py reads."
  type        = map(string)
}

variable "admission_parallelism" {
  description = "Parts of admission; tenants are spread over them."
  type        = number
  default     = 1
}
