variable "name" {
  description = "Name of the VPC."
  type        = string
}

variable "region" {
  description = "Region of the VPC."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16."
  type        = string
}

variable "zones" {
  description = "Availability zones, each with a number from 0 to 14 that never changes: its subnets are cut by it."
  type        = map(number)
}
