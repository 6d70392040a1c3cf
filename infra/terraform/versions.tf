terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # 6.62 is the version that tests/terraform checks against.
      version = ">= 6.62, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "millrace", deployment = var.name }
  }
}
