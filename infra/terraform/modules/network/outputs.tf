output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Private subnets, one a zone."
  value       = [for zone in sort(keys(var.zones)) : aws_subnet.private[zone].id]
}
