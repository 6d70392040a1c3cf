variable "name" {
  description = "Name of the key's alias."
  type        = string
}

variable "description" {
  description = "What it encrypts."
  type        = string
}

variable "account_id" {
  description = "Account whose IAM policies decide over the key."
  type        = string
}

variable "partition" {
  description = "AWS partition."
  type        = string
  default     = "aws"
}

variable "log_regions" {
  description = "Regions whose CloudWatch log groups are encrypted with it."
  type        = set(string)
  default     = []
}
