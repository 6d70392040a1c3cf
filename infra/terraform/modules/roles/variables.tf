variable "name" {
  description = "Prefix of the roles' names."
  type        = string
}

variable "account_id" {
  description = "Account of the roles."
  type        = string
}

variable "region" {
  description = "Region of bucket and secrets."
  type        = string
}

variable "bucket_arn" {
  description = "The bucket."
  type        = string
}

variable "bucket_key_arn" {
  description = "KMS key of the bucket."
  type        = string
}

variable "secret_arns" {
  description = "SCRAM credentials by user."
  type        = map(string)
}

variable "secrets_key_arn" {
  description = "KMS key of the credentials."
  type        = string
}

variable "processes" {
  description = "By service account: what it is, the folders of the bucket it works in, the Kafka user it logs in as."
  type        = map(object({ description = string, folders = list(string), user = string }))
}
