terraform {
  required_version = ">= 1.9"

  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = ">= 3.1, < 4.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.38, < 4.0"
    }
  }
}

locals {
  # `aws eks get-token` signs with whoever runs Terraform; nothing of it is kept.
  token = {
    api_version = "client.authentication.k8s.io/v1"
    command     = "aws"
    args        = ["eks", "get-token", "--cluster-name", var.kubernetes.name, "--region", var.region]
  }
}

provider "helm" {
  kubernetes = {
    host                   = var.kubernetes.endpoint
    cluster_ca_certificate = base64decode(var.kubernetes.certificate)
    exec                   = local.token
  }
}

provider "kubernetes" {
  host                   = var.kubernetes.endpoint
  cluster_ca_certificate = base64decode(var.kubernetes.certificate)

  exec {
    api_version = local.token.api_version
    command     = local.token.command
    args        = local.token.args
  }
}
