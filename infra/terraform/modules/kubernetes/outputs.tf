output "name" {
  description = "The cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Its API."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate" {
  description = "Its authority's certificate, base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "security_group_id" {
  description = "Its nodes and pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}
