variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the brokers."
  type        = string
}

variable "subnet_ids" {
  description = "A subnet for each broker, each in another zone; also the number of replicas."
  type        = list(string)
}

variable "clients" {
  description = "Security groups whose members may connect by SCRAM, by what they are."
  type        = map(string)
}

variable "iam_clients" {
  description = "Security groups whose members may connect by IAM, by what they are."
  type        = map(string)
}

variable "key_arn" {
  description = "KMS key of volumes, logs and secrets."
  type        = string
}

variable "kafka_version" {
  description = "Kafka's version, as MSK names it."
  type        = string
}

variable "instance_type" {
  description = "Instance type of a broker."
  type        = string
}

variable "volume_gib" {
  description = "Size of a broker's volume at its start."
  type        = number
}

variable "topics" {
  description = "Topics: partitions, and settings as Kafka names them."
  type        = map(object({ partitions = number, settings = map(string) }))
}

variable "users" {
  description = "Principals that log in by SCRAM; each gets an empty secret."
  type        = set(string)
}
