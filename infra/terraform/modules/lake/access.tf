# Who may read what, by Lake Formation: operators everything; a tenant's analysts the rows of their tenant, and of those
# no prompts or answers unless their role says so.

locals {
  # What a person wrote or was told.
  texts = { for table in ["responses", "shadows"] : table => ["body"] if contains(keys(var.tables), table) }

  # The keys of analysts are names that are known when planning; the role itself may not exist yet.
  grants = merge([
    for name, analyst in var.analysts : {
      for table in keys(var.tables) : "${name}/${table}" => merge(analyst, { analyst = name, table = table })
      if contains([for column in local.columns[table] : column.name], "tenant")
    }
  ]...)
}

# These settings are the account's, not the lake's: left alone where nobody is named. Without default permissions a new
# table is closed to those who have IAM rights alone.
resource "aws_lakeformation_data_lake_settings" "this" {
  count = length(var.administrators) > 0 ? 1 : 0

  admins = var.administrators
}

resource "aws_lakeformation_resource" "this" {
  arn      = aws_s3_bucket.this.arn
  role_arn = aws_iam_role.reader.arn
}

resource "aws_iam_role" "reader" {
  name        = "${var.database}-lake-formation"
  description = "Lake Formation reads the tables by it, for those it allows to."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lakeformation.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "reader" {
  name = "read-tables"
  role = aws_iam_role.reader.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Objects"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for table in keys(var.tables) : "${aws_s3_bucket.this.arn}/${table}/*"]
      },
      {
        Sid       = "List"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [aws_s3_bucket.this.arn]
        Condition = { StringLike = { "s3:prefix" = [for table in keys(var.tables) : "${table}/*"] } }
      },
      {
        Sid      = "Key"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.key_arn]
      },
    ]
  })
}

resource "aws_lakeformation_permissions" "describe" {
  for_each = merge(var.analysts, var.operators)

  principal   = each.value.role_arn
  permissions = ["DESCRIBE"]

  database {
    name = aws_glue_catalog_database.this.name
  }
}

resource "aws_lakeformation_permissions" "operators" {
  for_each = var.operators

  principal   = each.value.role_arn
  permissions = ["SELECT", "DESCRIBE"]

  table {
    database_name = aws_glue_catalog_database.this.name
    wildcard      = true
  }
}

resource "aws_lakeformation_data_cells_filter" "tenant" {
  for_each = local.grants

  table_data {
    table_catalog_id = var.account_id
    database_name    = aws_glue_catalog_database.this.name
    table_name       = aws_glue_catalog_table.this[each.value.table].name
    name             = "${each.value.analyst}-${each.value.table}"

    row_filter {
      filter_expression = "tenant = '${each.value.tenant}'"
    }

    column_wildcard {
      excluded_column_names = each.value.texts ? [] : lookup(local.texts, each.value.table, [])
    }
  }
}

resource "aws_lakeformation_permissions" "tenant" {
  for_each = local.grants

  principal   = each.value.role_arn
  permissions = ["SELECT"]

  data_cells_filter {
    table_catalog_id = var.account_id
    database_name    = aws_glue_catalog_database.this.name
    table_name       = aws_glue_catalog_table.this[each.value.table].name
    name             = aws_lakeformation_data_cells_filter.tenant[each.key].table_data[0].name
  }
}
